"""The routes, one file for each resource. They translate, and decide nothing.

Below the application, above the session service: a route takes a checked body to the tenant's
sessions and the answer back. Which key came in was settled by the middleware, which error becomes
which answer is settled in `error_table.py`.
"""
