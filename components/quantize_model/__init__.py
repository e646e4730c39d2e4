"""Pipeline step that makes the base weights smaller, one candidate a recipe."""
