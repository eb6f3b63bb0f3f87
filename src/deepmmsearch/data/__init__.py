"""Questions and trajectories as data: loaders of benchmarks, the DeepMMSearchVQA pipeline, converters."""
