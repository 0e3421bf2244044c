"""The controller of LoadTests, their children, results and status."""
