package rest

import (
	"net/http"

	"google.golang.org/grpc"

	permissionsv1 "github.com/remit-io/remit/proto/permissions/v1"
)

// permissionsRoutes are the calls of the permissions service.
func permissionsRoutes(conn grpc.ClientConnInterface) []route {
	const service base = "/permissions-service/v1"
	client := permissionsv1.NewPermissionsServiceClient(conn)
	return []route{
		service.at("/permissions", methods{
			http.MethodPost: unary(client.CreatePermission),
			http.MethodGet:  unary(client.ListPermissions),
		}),
		// These stand before {name}, which would match them too.
		service.at("/permissions/assign", methods{http.MethodPost: unary(client.GrantUserPermissionsAndRolesOnResource)}),
		service.at("/permissions/revoke", methods{http.MethodPost: unary(client.RevokeUserPermissionsAndRolesOnResource)}),
		service.at("/permissions/check", methods{http.MethodPost: unary(client.Check)}),
		service.at("/permissions/principals", methods{http.MethodGet: unary(client.ListPrincipals)}),
		service.at("/permissions/{name}", methods{
			http.MethodGet:    unary(client.GetPermission),
			http.MethodPut:    unary(client.UpdatePermission),
			http.MethodDelete: unary(client.DeletePermission),
		}),
		service.at("/permissions/user/{user_id}/resource/{resource_uri...}", methods{
			http.MethodGet: unary(client.GetUserPermissionsAndRolesOnResource),
		}),
		service.at("/permissions/assignments/principal/{principal_id}", methods{
			http.MethodGet: unary(client.GetAllAssignmentsForPrincipal),
		}),
		service.at("/roles", methods{
			http.MethodPost: unary(client.CreateRole),
			http.MethodGet:  unary(client.ListRoles),
		}),
		service.at("/roles/{id}", methods{
			http.MethodGet:    unary(client.GetRole),
			http.MethodPut:    unary(client.UpdateRole),
			http.MethodDelete: unary(client.DeleteRole),
		}),
	}
}
