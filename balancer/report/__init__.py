"""One self-contained HTML page from a run directory: `collect` reads, `render_page` writes."""
