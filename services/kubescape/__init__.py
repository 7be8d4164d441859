"""Publishes each document as Kubescape's custom resource, for those who come from there."""
