"""The routes, one file for each resource. They translate, and decide nothing.

Below the application, above the desk: a route takes a checked body to the tenant's desk and the
answer back. Which key came in was settled by the front, which error becomes which answer is
settled in `problems.py`.
"""
