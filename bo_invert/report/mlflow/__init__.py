"""MLflow integration: studies as MLflow runs."""
