"""The study: which regularizer pays on small real tasks, each with tuned values and fresh seeds."""
