"""The names of `mage_ai`, for the code of Mage projects: thin adapters over our own connectors and calls.

`names` says what there is, `importing` makes it importable while a run goes on. Importing this package loads
no data library.
"""
