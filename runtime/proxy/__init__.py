"""The proxy service, what people reach first: HTTPS with the login API of tsh and the sign-up page."""
