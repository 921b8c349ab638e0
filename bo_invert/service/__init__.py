"""A study over HTTP: server, client, page. The only room that knows FastAPI; see ``app`` for the verbs."""
