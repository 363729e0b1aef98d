import io
import pandas as pd
if 'data_loader' not in globals():
    from mage_ai.data_preparation.decorators import data_loader
if 'test' not in globals():
    from mage_ai.data_preparation.decorators import test


@data_loader
def load_data_from_file(*args, **kwargs) -> pd.DataFrame:
    """
    Passengers, from a file beside the code.
    """
    return pd.read_csv('/home/src/magic-zoomcamp/titanic.csv', sep=',')


@test
def test_output(output, *args) -> None:
    assert output is not None, 'The output is undefined'
