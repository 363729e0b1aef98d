from pandas import DataFrame
import math

if 'transformer' not in globals():
    from mage_ai.data_preparation.decorators import transformer
if 'test' not in globals():
    from mage_ai.data_preparation.decorators import test


def select_number_columns(df: DataFrame) -> DataFrame:
    return df[['Age', 'Fare', 'Survived']]


def fill_missing_values_with_median(df: DataFrame) -> DataFrame:
    for col in df.columns:
        values = sorted(df[col].dropna().tolist())
        df[[col]] = df[[col]].fillna(values[math.floor(len(values) / 2)])
    return df


@transformer
def transform_df(df: DataFrame, *args, **kwargs) -> DataFrame:
    """
    Numbers only, and none of them missing.
    """
    out = fill_missing_values_with_median(select_number_columns(df))
    out['Fare'].fillna(0, inplace=True)
    return out


@test
def test_output(df) -> None:
    assert df is not None, 'The output is undefined'
    assert df.isna().sum().sum() == 0
