"""HTTP service: server, client and web page. ``app`` lists the routes."""
