"""Load tests on a cluster, as a user of the API server creates, follows and reads them."""
