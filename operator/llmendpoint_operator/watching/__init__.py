"""Watches of the cluster: reflectors for children and pods, kopf for our own resources and Leases."""
