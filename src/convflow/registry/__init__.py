"""The room that speaks MLflow. What looks first (store, ledger, key, order, follow) never imports it."""
