"""The routes of the application as data, for tests that walk them."""

from frontdesk.gateway.app import ROUTERS

ROUTES_WITH_GET = sorted(
    {
        route.path_format
        for module in ROUTERS
        for route in module.router.routes
        if "GET" in route.methods and not route.path.endswith("/ws")
    }
)
