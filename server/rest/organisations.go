package rest

import (
	"net/http"

	"google.golang.org/grpc"

	organisationv1 "github.com/remit-io/remit/proto/organisation/v1"
)

// organisationRoutes are the calls of the organisation service.
func organisationRoutes(conn grpc.ClientConnInterface) []route {
	const service base = "/organisation-service/v1"
	client := organisationv1.NewOrganisationServiceClient(conn)
	return []route{
		service.at("/organisation", methods{
			http.MethodPost: unary(client.CreateOrganisation),
			http.MethodGet:  unary(client.ListOrganisations),
		}),
		service.at("/organisation/{id}", methods{
			http.MethodGet:    unary(client.GetOrganisation),
			http.MethodPut:    unary(client.UpdateOrganisation),
			http.MethodDelete: unary(client.DeleteOrganisation),
		}),
		service.at("/organisation/{organisation_id}/project", methods{
			http.MethodPost:   unary(client.CreateProject),
			http.MethodGet:    unary(client.GetProject),
			http.MethodDelete: unary(client.DeleteProject),
		}),
		service.at("/organisation/{organisation_id}/projects", methods{http.MethodGet: unary(client.GetProjectsForOrganisation)}),
		service.at("/organisation/{organisation_id}/api-key", methods{
			http.MethodPost: unary(client.CreateAPIKey),
			http.MethodGet:  unary(client.ListAPIKeys),
		}),
		service.at("/organisation/{organisation_id}/api-key/{id}", methods{http.MethodDelete: unary(client.InvalidateAPIKey)}),
		service.at("/whoami", methods{http.MethodGet: unary(client.WhoAmI)}),
	}
}
