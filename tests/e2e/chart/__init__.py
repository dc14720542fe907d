"""The chart: what it renders under both versions of Helm, what it refuses, and what a real API server says to it."""
