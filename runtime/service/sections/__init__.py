"""The sections of teleport.yaml: a module for each that stands at the top, and for two that are long.

A class for each section, a field for each key; `runtime.service.settings` is the whole of them.
"""
