"""The generated project behind nginx and Caddy, with the configurations of the documentation: `make test-proxies`."""
