"""What looks after the project itself: the environment, and the checks that CI runs. Nothing of it is installed."""
