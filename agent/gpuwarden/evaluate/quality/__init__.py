"""Is what a model is fed, and what people say of its answers, fit to be believed: images, tables, labels, KPIs."""
