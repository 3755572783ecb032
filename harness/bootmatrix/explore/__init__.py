"""Random lives of guests over a matrix, with the policies' models as the oracle.

``lives`` has what a life can be, ``machine`` (the one module that knows hypothesis) makes them up
and shrinks them, ``search`` runs them and keeps what was found.
"""
