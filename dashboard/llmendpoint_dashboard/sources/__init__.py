"""Sources of the dashboard. Each one reads something regularly, and writes sections and rows into the hub."""
