"""What the chapters train with: data, models, recipes, results. It imports the library; the library never imports it."""
