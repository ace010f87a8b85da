"""What survives a restart: immutable blobs, and the catalog whose transaction is the commit."""
