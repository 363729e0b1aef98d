from mage_ai.settings.repo import get_repo_path
from mage_ai.io.config import ConfigFileLoader
from mage_ai.io.google_cloud_storage import GoogleCloudStorage
from os import path
import os

if 'data_exporter' not in globals():
    from mage_ai.data_preparation.decorators import data_exporter


@data_exporter
def export_days(df, *args, **kwargs):
    """
    One object for each day, by the class
    """
    config_path = path.join(get_repo_path(), 'io_config.yaml')
    storage = GoogleCloudStorage.with_config(ConfigFileLoader(config_path, 'default'))
    for day, trips in df.groupby(df['tpep_pickup_datetime'].dt.date):
        storage.export(trips, os.environ['GCS_BUCKET'], f'by_day/{day}/trips.parquet')
