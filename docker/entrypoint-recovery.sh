# What the Bytewax chart starts before that, in each pod, with a volume of its own or the same.
pod=${BYTEWAX_POD_NAME:-$(hostname)}
exec docker/recovery "$BYTEWAX_RECOVERY_DIRECTORY" "${pod##*-}"
