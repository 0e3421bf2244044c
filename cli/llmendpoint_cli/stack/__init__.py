"""The processes of the local stack, and the ports that they listen on."""
