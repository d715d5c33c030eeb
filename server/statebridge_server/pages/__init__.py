"""The pages of the server: what a person does with a browser, with the key of a cookie.

They call the same functions as the routes below /v1, so that a key sees and may do the same here
and there. The templates are the library's (`statebridge.pages`).
"""
