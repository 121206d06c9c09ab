"""One function over many tasks, in this process or on workers.

In: a function, what all of its tasks share, and the tasks.
Out: the result of each task, as they come.
"""
