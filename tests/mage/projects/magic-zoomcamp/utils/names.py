import re

from mage_ai.settings.repo import get_repo_path

HOME = get_repo_path()


def snake(name):
    """VendorID -> vendor_id"""
    return re.sub(r'(?<=[a-z])(?=[A-Z])', '_', name).lower()
