"""Channels of one network brought into the order of another before they are compared.

In: two networks of one architecture and an input to trace.
Out: which channels correspond, and the source with its channels in the target's order.
"""
