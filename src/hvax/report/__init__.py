"""A trained model as one HTML file with its numbers and pictures: `hvax.report.report`."""
