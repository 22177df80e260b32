"""A trained model as one HTML page: `hvax.report.report.write_report`."""
