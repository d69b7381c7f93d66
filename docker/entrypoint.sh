# What the Bytewax chart starts, in the working directory of the image; FLOW comes in `env`.
exec docker/flow
