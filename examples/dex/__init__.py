"""Documents parsed into chunks, and the trace spans of that streamed to whoever asks for them."""
