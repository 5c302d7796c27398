"""From the metrics of finished runs to tables and figures. Nothing here needs torch."""
