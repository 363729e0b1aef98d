"""Databases by SQLAlchemy: one connector, and for each database an object that says what it does its own way.

No module here loads a driver; SQLAlchemy does, when a connection is made.
"""

from pipelines.io.sqlalchemy.connector import AlchemyConnector, SQLAlchemy

__all__ = ["AlchemyConnector", "SQLAlchemy"]
