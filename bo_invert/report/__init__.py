"""Reports: tables, figures, galleries and HTML from trials and runs, and MLflow export."""
