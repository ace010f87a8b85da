import socket

from memory_server.connections import Connections


def connections(peer):
    return Connections().of(peer)


def still_open(known):
    return known & Connections().all


def peer_of(accepted: socket.socket) -> str:
    """As gRPC names it."""
    host, port, *_ = accepted.getpeername()
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"


def test_the_connection_of_a_peer_is_told_from_others_until_it_is_closed():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        clients = [socket.create_connection(listening.getsockname()) for _ in range(3)]
        first, second, _third = accepted = [listening.accept()[0] for _ in clients]
        found = [connections(peer_of(each)) for each in accepted]
        assert [len(each) for each in found] == [1, 1, 1]
        assert len(set.union(*found)) == 3
        first.close()
        assert still_open(found[0]) == connections("ipv4:127.0.0.1:1") == set()
        assert still_open(found[0] | found[1]) == found[1]
        second.close()
        for each in (*clients, *accepted):
            each.close()
        assert still_open(set.union(*found)) == set()


def test_a_later_connection_with_the_same_descriptor_is_another_one():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        for _ in range(2):
            client = socket.create_connection(listening.getsockname())
            accepted, _ = listening.accept()
            descriptor, found = accepted.fileno(), connections(peer_of(accepted))
            client.close()
            accepted.close()
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as later:
            assert later.fileno() in (descriptor, descriptor + 1)
            assert still_open(found) == set()
            assert connections(peer_of(later)) != found


def test_addresses_of_either_family_are_read():
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as listening,
        socket.create_connection(listening.getsockname()[:2]),
        listening.accept()[0] as accepted,
    ):
        assert len(connections(peer_of(accepted))) == 1


def test_a_peer_on_a_unix_socket_is_any_of_them_and_neither_who_listens_nor_a_pair(tmp_path):
    path = str(tmp_path / "socket")
    one, other = socket.socketpair()
    with one, other, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        assert connections("unix:") == set()
        clients = [socket.socket(socket.AF_UNIX) for _ in range(2)]
        for client in clients:
            client.connect(path)
        accepted = [listening.accept()[0] for _ in clients]
        found = connections("unix:")
        assert len(found) == 2 and connections(f"unix:{path}") == found
        accepted[0].close()
        assert len(still_open(found)) == 1
        for each in (*clients, *accepted):
            each.close()
        assert still_open(found) == set()
