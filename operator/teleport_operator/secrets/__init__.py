"""The Secrets that documents refer to, and those that are made for them. Nothing of them is remembered but versions."""
