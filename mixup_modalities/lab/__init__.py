"""What the chapters train with: data, models, recipes, results. It imports the library, never the other way."""
