from magic_zoomcamp.utils.names import HOME, snake
if 'transformer' not in globals():
    from mage_ai.data_preparation.decorators import transformer
if 'test' not in globals():
    from mage_ai.data_preparation.decorators import test


@transformer
def transform(data, *args, **kwargs):
    data = data[(data['passenger_count'] > 0) & (data['trip_distance'] > 0)]

    data['lpep_pickup_date'] = data['lpep_pickup_datetime'].dt.date

    data.columns = [snake(column) for column in data.columns]
    print(HOME, data['vendor_id'].unique())

    return data


@test
def test_vendor_id(output, *args):
    assert output['vendor_id'].isin([1, 2]).all(), 'vendor_id has values that are not known'


@test
def test_passenger_count(output, *args):
    assert (output['passenger_count'] > 0).all(), 'there are rides without passengers'


@test
def test_trip_distance(output, *args):
    assert (output['trip_distance'] > 0).all(), 'there are rides of no distance'
