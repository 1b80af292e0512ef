"""Questions that no paper answers with one grid: each study is a script, a JSON file and a page."""
