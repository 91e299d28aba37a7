"""The servers that tests of object storage use do what these rely on."""

from __future__ import annotations

import threading

from object_storage import ObjectStorage


def test_of_writers_of_one_new_key_one_alone_succeeds(object_storage: ObjectStorage) -> None:
    client = object_storage.client
    for number in range(5):
        written: list[bytes] = []
        refused: list[str] = []

        def put(body: bytes, key: str, written: list[bytes], refused: list[str]) -> None:
            try:
                client.put_object(Bucket=object_storage.bucket, Key=key, Body=body, IfNoneMatch="*")
                written.append(body)
            except client.exceptions.ClientError as error:
                refused.append(error.response["Error"]["Code"])

        arguments = [(b"%d" % i, f"{number}", written, refused) for i in range(6)]
        threads = [threading.Thread(target=put, args=each) for each in arguments]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert refused == ["PreconditionFailed"] * 5
        assert client.get_object(Bucket=object_storage.bucket, Key=f"{number}")["Body"].read() == written[0]
