"""The report as one HTML page: no script, no network, charts as SVG, and a table beside each chart."""
