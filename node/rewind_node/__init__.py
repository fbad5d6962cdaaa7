"""One Rewind server: storage, sockets, the loop, admin HTTP. See `node/README.md` for the map."""
