"""One self-contained HTML page from a run directory: `collect.write_report`.

`collect` reads the run into `content.ReportContent`; `page.render_page` makes the HTML from it.
"""
