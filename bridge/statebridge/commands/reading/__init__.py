"""Commands that read runs: scores, comparison, audit, report, pages."""
