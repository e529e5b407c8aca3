"""Helpers of the tests: reference implementations, file writers, servers."""
