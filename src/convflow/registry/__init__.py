"""The room that speaks MLflow. Light modules (store, ledger, key, follow, resolve) never import it."""
