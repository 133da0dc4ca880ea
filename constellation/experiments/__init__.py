"""The experiments: graphs of stages over the library's parts."""
